"""What runs beside the API: loops of the controller, and the build process."""
