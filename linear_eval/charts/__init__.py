"""Numbers to places on a drawing: axes, lines, intervals. What is drawn is up to a template."""
