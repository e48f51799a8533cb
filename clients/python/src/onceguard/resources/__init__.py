"""The calls of the API, a file for each resource. A function makes the plan of a call, and two
classes run it: on a blocking connection, and on an asyncio one."""
