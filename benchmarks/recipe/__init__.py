"""Training experiments: datasets for them (`datasets`), training over seeds and adding runs to the table (`runs`)."""
