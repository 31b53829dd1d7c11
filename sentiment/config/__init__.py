"""The options of runs: dataclasses, how YAML files and flags become them, and ready-made runs."""
