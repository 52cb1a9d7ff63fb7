"""The configuration: a YAML file as typed models, with the origin of every value."""
