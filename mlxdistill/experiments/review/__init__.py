"""`mlxdistill review`: a page on this machine where a person goes through rows worth a look, by keyboard."""
