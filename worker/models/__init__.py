"""Models: one module per kind behind the protocol of `protocol`, chosen by `open_model` in `registry`."""
