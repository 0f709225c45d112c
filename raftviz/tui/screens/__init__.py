"""What lies over everything else: help, and the steps of a lesson."""
