"""Commands on datasets: audit, format conversion, splitting."""
