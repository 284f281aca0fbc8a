"""What a target of deployment cannot take of a model, row by row, found by exports of the untrained graph.

To add a target: write its file here, register a `Target` in it, and add its name to `TARGETS` of
`graftdet.utils.cli.options`.
"""
