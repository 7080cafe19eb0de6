"""The protocols over HTTP; each file offers the routes of one."""
