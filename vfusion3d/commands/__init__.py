"""The subcommands of ``vfusion3d``, one file each."""
