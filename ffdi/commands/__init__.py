"""What each verb does, in order, one file a verb: the only rooms that talk to a person.

torch takes seconds to import and serving does without it, so the rooms that need it are opened where they are used.
"""
