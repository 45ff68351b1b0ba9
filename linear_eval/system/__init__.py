"""What any command needs of the machine: errors and exit codes, whole files, processes, threads."""
