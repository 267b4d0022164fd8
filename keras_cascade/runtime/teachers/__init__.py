"""Teachers: what answers the rows that a device delegates."""
