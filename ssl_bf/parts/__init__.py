"""Stateful pieces that methods are made of: heads, slow copies, queues, batch norms, shuffles."""
