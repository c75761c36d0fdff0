"""How data sets lie on disk: one module a layout, each giving videos with label and splits."""
