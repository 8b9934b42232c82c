"""Standard output of a tool that does more than print.

A reader that closes the pipe, as `head` does, has all it wants: the tool does its work to the end, and its exit
status is that of the work. Any other failure, such as a full disk, loses output that somebody relies on.
"""

import os
import sys

LOST = 74
"""The exit status if output was lost: EX_IOERR."""


class Output:
    """Prints lines. `problem` says why output is lost, if it is."""

    def __init__(self):
        self.problem = None
        self._takes_more = True

    def line(self, text):
        if not self._takes_more:
            return
        try:
            print(text, flush=True)
        except OSError as error:
            self._takes_more = False
            if not isinstance(error, BrokenPipeError):
                self.problem = error
            # What is left in the buffer would fail again when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def finish(self, program, status):
        """The status to exit with, after work whose own status is `status`."""
        if self.problem is None:
            return status
        print(f"{program}: standard output: {self.problem.strerror}; what was printed is lost", file=sys.stderr)
        return status or LOST


def run(program, command):
    """Runs a command that prints by its argument `out`. Returns the status to exit with."""
    output = Output()
    return output.finish(program, command(out=output.line))
