-- Here the service alone says how exactly activity is written down.
SELECT 1;
