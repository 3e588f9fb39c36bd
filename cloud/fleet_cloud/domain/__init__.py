"""Pure rules. Standard library and fleet_shared only; time and ids are arguments."""
