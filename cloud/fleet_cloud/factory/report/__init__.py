"""The report of a build: ``report.json`` (`document`) and ``report.html`` (`page`). Imports nothing by
itself: `document` is read where no plots are made."""
