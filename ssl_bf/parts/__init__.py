"""Stateful pieces that methods are made of: slow copies, queues, groups, shuffles."""
