"""An ensemble behind HTTP: Ray Serve's deployments, and the page that they serve."""
