"""When is what due? Cron expressions, intervals, and which of the times that have passed a Run is started for.

Nothing here starts a Run or reads a clock. Read next: `kastra.runtime.schedules.timing`, then `controllers/schedule.py`.
"""
