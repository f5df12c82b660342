"""From a file to a resolved experiment: names, rules, points, warnings; nothing is built."""
