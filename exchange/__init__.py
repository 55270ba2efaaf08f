"""Everything that crosses a hospital's wall, and nothing else.

A message is one of the classes of `messages`, and where weights travel one packed array of
`update` beside it. What these classes do not name does not leave a site: unknown fields are
refused on both sides, and the client sends by `messages.to_record` alone.
"""
