"""What verbs do with a simulator of data of no domain, of which there is no true environment."""
