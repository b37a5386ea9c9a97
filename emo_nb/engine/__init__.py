"""What makes training and prediction fast and safe: the machine's number format, fast inference, callbacks, checks."""
