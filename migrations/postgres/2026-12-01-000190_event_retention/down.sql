DROP INDEX events_callers;
