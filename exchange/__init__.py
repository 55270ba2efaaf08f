"""All data that a hospital and the coordinator exchange, and nothing else.

A message is an instance of one class of `messages`. Where weights are sent, one packed array of
`update` goes with it. Data that these classes do not name cannot leave a site: both sides refuse
unknown fields, and the client sends through `messages.to_record` only.
"""
