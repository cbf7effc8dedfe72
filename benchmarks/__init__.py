"""Speed against what a user would write by hand: trials on Ray Tune, the input pipeline, and a plain training loop."""
