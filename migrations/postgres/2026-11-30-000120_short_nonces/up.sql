-- Only SQLite's nonces become shorter: here, a key of 16 bytes costs little beside the row's own 24.
SELECT 1;
