"""The lowest floor: tools that know neither models nor data sets. Import the submodule you need."""
