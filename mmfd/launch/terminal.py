"""What a terminal shows of a run: a few lines, where the log file has all."""
import logging
import sys

from mmengine.logging import MMLogger
from tqdm import tqdm

from mmfd.hosts import log, system


class ConsoleHandler(logging.StreamHandler):
    """Print what is for users, above the line of progress if there is one."""

    def __init__(self, level):
        super().__init__(sys.stdout)
        self.setLevel(level)
        self.addFilter(log.is_for_users)

    def format(self, record):
        warned = record.levelno >= logging.WARNING
        return log.wrapped('warning: ' * warned + record.getMessage(),
                           self.stream)

    def emit(self, record):
        try:
            tqdm.write(self.format(record), file=self.stream)
        except Exception as error:  # as Python's do: a log ends no run
            if not system.leave_closed_console(error):
                self.handleError(record)


def take_over(logger):
    """Let a logger of the host print what is for users alone.

    Its file still gets everything. Where the host's handler prints errors
    alone, as in all processes but the first, so does ours.
    """
    logger.handlers[:] = [
        ConsoleHandler(handler.level)
        if type(handler) is logging.StreamHandler else handler
        for handler in logger.handlers
    ]


def begin():
    """Show what is for users, as of now: there is no Runner yet."""
    take_over(MMLogger.get_current_instance())
    log.hide_meaningless()


def quiet(runner_class):
    """A Runner whose console shows what is for users, and its progress."""

    class QuietRunner(runner_class):

        def build_logger(self, *args, **kwargs):
            logger = super().build_logger(*args, **kwargs)
            take_over(logger)
            return logger

        def build_evaluator(self, evaluator):
            """What it finds is printed by ProgressHook; a host prints more."""
            built = super().build_evaluator(evaluator)
            evaluate = built.evaluate

            def evaluate_without_prints(*args, **kwargs):
                with log.prints_discarded():
                    return evaluate(*args, **kwargs)

            built.evaluate = evaluate_without_prints
            return built

        def register_hooks(self, *args, **kwargs):
            super().register_hooks(*args, **kwargs)
            self.register_hook(dict(type='mmfd.ProgressHook'))

    return QuietRunner
