"""What is done to items, a file for each stage; `vfusion3d.engine` has their names."""
