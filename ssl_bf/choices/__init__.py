"""What is settled before the first step: settings that fit, precision, threads, pace."""
