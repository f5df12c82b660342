"""What 'moesim advise' answers: tables, the answer in words, its picture."""
