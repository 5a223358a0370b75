# Prints the messages of a mailbox, a file or a Maildir, as JSON. Any defect that the library sees in one is an error.
import json
import mailbox
import os
import sys
import time
from datetime import timezone
from email import message_from_bytes, message_from_string, policy


def messages(path):
    if not os.path.exists(path):
        return []
    if os.path.isdir(path):
        box = mailbox.Maildir(path, create=False)
    else:
        box = mailbox.mbox(path, create=False)
        lock(box)
    try:
        return [box.get_bytes(key) for key in box.keys()]
    finally:
        box.unlock()


# As the servers do it: none of them is in the middle of a message then.
def lock(box):
    while True:
        try:
            return box.lock()
        except mailbox.ExternalClashError:
            time.sleep(0.01)


def read(raw):
    if raw.isascii():
        message = message_from_bytes(raw, policy=policy.strict)
    else:
        # A header in UTF-8 (RFC 6532), of which bytes say nothing.
        message = message_from_string(raw.decode("utf-8"), policy=policy.strict)
    date = message["Date"].datetime.astimezone(timezone.utc)
    part = message.get_body(("plain",))
    return {
        "headers": [[name, str(value)] for name, value in message.items()],
        "to": [address.addr_spec for address in message["To"].addresses],
        "from": [[address.display_name, address.addr_spec] for address in message["From"].addresses],
        "time": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "type": [message.get_content_type(), message.get_content_charset()],
        "text": part.get_content() if part else "",
        "raw": raw.decode("utf-8"),
    }


json.dump([read(raw) for raw in messages(sys.argv[1])], sys.stdout)
