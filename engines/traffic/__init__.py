"""Who splits live traffic between a champion and its candidate: one port, several backends."""
