"""What `make` calls: execute, clean and render the notebooks. Nothing in `helpers` or in a notebook imports it."""
