"""An SSH server on loopback in a separate process: ``python sftp_server.py FOLDER USER PASSWORD`` prints its port."""

import asyncio
import sys

import asyncssh


class Files(asyncssh.SFTPServer):
    async def scandir(self, path):
        async for entry in super().scandir(path):
            if entry.attrs.atime is not None:  # OpenSSH lists ".." too, without which fsspec fails
                yield entry


async def serve(folder, user, password):
    class Login(asyncssh.SSHServer):
        def begin_auth(self, _username):
            return True

        def password_auth_supported(self):
            return True

        def validate_password(self, given_user, given_password):
            return (given_user, given_password) == (user, password)

    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Login,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=lambda channel: Files(channel, chroot=folder.encode()),
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
