"""What the pages show: tables computed from an experiment, drawn by plotly and matplotlib, and put on a page."""
