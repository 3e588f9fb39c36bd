"""What travels between the cloud and the devices: one module per family, frozen structs."""
