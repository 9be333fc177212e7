"""Who is who: keys, addresses, peer ids, and what is signed with them."""
