"""Where machines stand: countries, their groups, and how far light comes."""
