"""The one way to write files and folders, whole or not at all, and the one to read and check them."""

from persim_gym.storage.leftovers import remove_left_behind, restore_all, restored, scratch_folder
from persim_gym.storage.loading import checked_array, read_array, read_folder, read_json, read_measured, reading
from persim_gym.storage.names import CARD, MEASURED, README, SIGNATURE, WEIGHTS
from persim_gym.storage.plain import changed_fields, from_plain, shown
from persim_gym.storage.writing import (
    check_own_file,
    check_weights_stay,
    replaceable,
    replacing,
    write_folder,
    write_json,
    write_page,
    write_text,
)

__all__ = [
    "CARD",
    "MEASURED",
    "README",
    "SIGNATURE",
    "WEIGHTS",
    "changed_fields",
    "check_own_file",
    "check_weights_stay",
    "checked_array",
    "from_plain",
    "read_array",
    "read_folder",
    "read_json",
    "read_measured",
    "reading",
    "remove_left_behind",
    "replaceable",
    "replacing",
    "restore_all",
    "restored",
    "scratch_folder",
    "shown",
    "write_folder",
    "write_json",
    "write_page",
    "write_text",
]
