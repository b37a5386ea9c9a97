"""Files in and out: atomic writes, archives, readers and writers of tables, downloads, and the schemas of what is kept."""
