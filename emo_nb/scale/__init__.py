"""More texts than fit in memory: files of any size, read and predicted in parts."""
