"""What any program needs: signals, processes, devices, disk, terminal, text."""
