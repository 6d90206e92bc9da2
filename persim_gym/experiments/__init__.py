"""The thesis's protocol and published numbers; runs, studies, tables and figures."""
