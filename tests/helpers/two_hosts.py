"""Two hosts in one machine: network namespaces with a cable between them.

Each has a name, addresses and ports of its own; files are shared, as on a
cluster. A user who is not root may make them, where the kernel allows it.
"""
import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

ADDRESSES = '10.77.0.1', '10.77.0.2'
NAMES = 'first', 'second'
HOLD = 'hostname {name} && ip link set lo up && echo up && exec cat'


class Hosts:
    """Two hosts, numbered 0 and 1; a context manager, which removes them."""

    def __enter__(self):
        self.holders, self.started = [], []
        try:
            for name, into in zip(NAMES, (['-rnu'], ['-nu'])):
                within = self.enter(0) if self.holders else []
                self.holders.append(
                    subprocess.Popen([
                        *within, 'unshare', *into, 'sh', '-c',
                        HOLD.format(name=name)
                    ],
                                     stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE,
                                     text=True))
                assert self.holders[-1].stdout.readline() == 'up\n'
            self.ip(0, 'link', 'add', 'name', 'cable', 'type', 'veth', 'peer',
                    'name', 'cable', 'netns', str(self.holders[1].pid))
            for host, address in enumerate(ADDRESSES):
                self.ip(host, 'address', 'add', f'{address}/24', 'dev',
                        'cable')
                self.ip(host, 'link', 'set', 'cable', 'up')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for host in range(len(self.holders)):
            self.kill_all(host)
        for process in self.started:
            process.wait()
        for holder in self.holders:  # with them the namespaces and cable go
            holder.kill()
            holder.wait()
            holder.stdin.close()
            holder.stdout.close()

    def start(self, host, command, log, **environment):
        """Start a command on a host; its output is appended to `log`.

        Args:
            host (int): 0 or 1.
            command (list): program and arguments.
            log (Path): of its output.
            environment: variables beside those of the test.

        Returns:
            subprocess.Popen: started.
        """
        with open(log, 'a') as output:
            self.started.append(
                subprocess.Popen([*self.enter(host), *map(str, command)],
                                 stdin=subprocess.DEVNULL,
                                 stdout=output,
                                 stderr=output,
                                 env={
                                     **os.environ,
                                     **{
                                         k: str(v)
                                         for k, v in environment.items()
                                     }
                                 }))
        return self.started[-1]

    def cut(self):
        """Pull the cable: packets go nowhere, and nobody is told."""
        self.ip(1, 'link', 'set', 'cable', 'down')

    def slow(self, rate):
        """Let the cable carry no more than a `rate` such as 20mbit."""
        for host in range(2):
            subprocess.run([
                *self.enter(host), 'tc', 'qdisc', 'add', 'dev', 'cable',
                'root', 'tbf', 'rate', rate, 'burst', '32k', 'latency', '50ms'
            ],
                           check=True)

    def sent(self, host):
        """Bytes that a host has put on the cable so far."""
        shown = subprocess.run(
            [*self.enter(host), 'ip', '-s', '-j', 'link', 'show', 'cable'],
            check=True,
            stdout=subprocess.PIPE)
        [link] = json.loads(shown.stdout)
        return link['stats64']['tx']['bytes']

    def kill_all(self, host):
        """Kill all that runs on a host; its system says so to the other."""
        holder = self.holders[host].pid
        network = os.readlink(f'/proc/{holder}/ns/net')
        for entry in Path('/proc').glob('[0-9]*'):
            with suppress(OSError):  # it has ended meanwhile
                if (os.readlink(entry / 'ns/net') == network
                        and int(entry.name) != holder):
                    os.kill(int(entry.name), signal.SIGKILL)

    def ip(self, host, *arguments):
        subprocess.run([*self.enter(host), 'ip', *arguments], check=True)

    def enter(self, host):
        """The words before a command that is to run on a host."""
        return [
            'nsenter', '--preserve-credentials', '-U', '-n', '-u', '-t',
            str(self.holders[host].pid)
        ]


def missing():
    """Why there can be no two hosts here: text, empty if there can be."""
    for program in 'ip', 'unshare', 'nsenter':
        if not shutil.which(program):
            return f'the program {program} is not there'
    try:
        with Hosts():
            return ''
    except (AssertionError, subprocess.CalledProcessError):
        return 'this user may make no network namespaces'
