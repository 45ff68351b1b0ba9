"""Where images are kept: decoded, packed, in memory or on a device."""
