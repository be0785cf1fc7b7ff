"""A student may be of any family: timm's networks take small images, and come back from the disk as they were."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from datafree import teachers
from datafree.classifier import Classifier
from datafree.networks.input_fitting import patch_for
from datafree.runs.tasks import Task, arguments_in, student_of
from datafree.types import InputError, Preprocessing

NETWORKS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": [8, 8], "patch_size": 1},
    "test_vit": {"img_size": [8, 8], "patch_size": 1},
    "mobilenetv3_small_050": {},
    "resnet10t": {},
    "regnetx_002": {},
    "efficientnet_lite0": {},
}


def teacher_of(*shape: int) -> Classifier:
    return teachers.create("convnet_w16", classes=4, shape=shape, mean=(0.4,), std=(0.3,)).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_another_family_learns_small_images_and_is_timms_again(name: str, tmp_path: Path):
    student = student_of(teacher_of(1, 8, 8), name).train()
    F.cross_entropy(student(torch.rand(4, 1, 8, 8)), torch.arange(4)).backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in student.parameters())
    teachers.save_folder(student.eval(), tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert config["model_args"] == {"in_chans": 1} | NETWORKS[name]
    images = torch.rand(2, 1, 8, 8)
    plain = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True).eval()
    assert torch.allclose(plain(student.normalize(images)), student(images), atol=1e-5)
    assert torch.equal(teachers.load(f"local-dir:{tmp_path / 'net'}")(images), student(images))


def test_timm_loads_a_small_transformer_with_datafree_absent(tmp_path: Path):
    saved = student_of(teacher_of(3, 32, 32), "test_vit", {"depth": 2}).eval()
    teachers.save_folder(saved, tmp_path / "net")
    images = torch.rand(2, 3, 32, 32)
    save_file({"images": saved.normalize(images).contiguous()}, tmp_path / "in")
    program = (
        "import sys; sys.modules['datafree'] = None\n"
        "import timm, torch; from safetensors.torch import load_file, save_file\n"
        "model = timm.create_model('local-dir:net', pretrained=True).eval()\n"
        "assert len(model.blocks) == 2 and model.patch_embed.grid_size == (8, 8)\n"
        "with torch.no_grad(): save_file({'out': model(load_file('in')['images'])}, 'out')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
    assert torch.allclose(load_file(tmp_path / "out")["out"], saved(images), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "own", "patch"),
    [
        ((8, 8), 16, 1),
        ((28, 28), 16, 2),
        ((32, 32), 16, 4),
        ((32, 32), 4, 4),
        ((64, 64), 16, 8),
        ((224, 224), 16, 16),
        ((224, 224), 32, 28),
        ((48, 32), 16, 4),
        ((5, 5), 16, 1),
        ((37, 37), 16, 1),
    ],
)
def test_patches_by_hand(size: tuple[int, int], own: int, patch: int):
    assert patch_for(size, own) == patch


class TestArguments:
    def test_a_student_is_shown_what_its_teacher_is_shown(self):
        teacher = teacher_of(3, 32, 32)
        teacher.view = Preprocessing(crop_pct=0.75, interpolation="lanczos")
        assert student_of(teacher, "test_vit").view == teacher.view

    def test_a_patch_that_is_wanted_is_taken(self):
        student = student_of(teacher_of(3, 32, 32), "test_vit", {"patch_size": 8, "depth": 3})
        assert student.model.patch_embed.grid_size == (4, 4)  # type: ignore[union-attr]
        assert len(student.model.blocks) == 3  # type: ignore[arg-type]

    def test_a_patch_that_timm_has_fixed_is_kept(self):
        student = student_of(teacher_of(3, 32, 32), "mixer_s32_224")
        assert student.model.pretrained_cfg["model_args"] == {"img_size": [32, 32]}  # type: ignore[index]
        with pytest.raises(InputError, match="network 'mixer_s32_224' (cannot take|could not be made)"):
            student_of(teacher_of(3, 8, 8), "mixer_s32_224")

    def test_a_network_at_its_own_size_is_left_alone(self):
        student = student_of(teacher_of(3, 160, 160), "test_vit")
        assert student.model.pretrained_cfg["model_args"] == {}  # type: ignore[index]

    def test_looking_for_the_patch_draws_nothing_from_the_student(self):
        weights = []
        for arguments in ({}, {"patch_size": 1}):
            torch.manual_seed(3)
            weights.append(student_of(teacher_of(1, 8, 8), "test_vit", arguments).state_dict())
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    def test_words_by_hand(self):
        assert arguments_in(("depth=4", "mlp_ratio=1.5", "dims=[8, 16]", "qkv_bias=false")) == {
            "depth": 4,
            "mlp_ratio": 1.5,
            "dims": [8, 16],
            "qkv_bias": False,
        }

    @pytest.mark.parametrize("word", ["depth", "depth=four", "=", "depth="])
    def test_other_words_are_refused(self, word: str):
        with pytest.raises(InputError, match="write NAME=NUMBER"):
            arguments_in((word,))

    def test_a_task_hands_them_on(self, tmp_path: Path):
        teachers.save_folder(teacher_of(1, 8, 8), tmp_path / "teacher")
        task = Task(teacher=f"local-dir:{tmp_path / 'teacher'}", student="test_vit", student_args=("depth=1",))
        assert len(task.load()[1].model.blocks) == 1  # type: ignore[arg-type]

    def test_a_folder_says_itself_what_it_is(self, tmp_path: Path):
        teachers.save_folder(teacher_of(1, 8, 8), tmp_path / "net")
        with pytest.raises(InputError, match="leave student-args out"):
            student_of(teacher_of(1, 8, 8), f"local-dir:{tmp_path / 'net'}", {"depth": 1})

    @pytest.mark.parametrize("bad", [{"checkpoint_path": "/etc/passwd"}, {"pretrained_cfg": {"file": "x"}}])
    def test_a_file_cannot_choose_files(self, bad: dict[str, Any], tmp_path: Path):
        teachers.save_folder(teacher_of(1, 8, 8), tmp_path / "net")
        config = json.loads((tmp_path / "net" / "config.json").read_text())
        (tmp_path / "net" / "config.json").write_text(json.dumps(config | {"model_args": bad}))
        with pytest.raises(InputError, match="only numbers can be set"):
            teachers.load_folder(tmp_path / "net")

    def test_arguments_that_a_network_does_not_take_are_refused(self):
        with pytest.raises(InputError, match=r"network 'resnet10t' could not be made .*depth"):
            student_of(teacher_of(1, 8, 8), "resnet10t", {"depth": 4})


@pytest.mark.parametrize(
    ("name", "shape", "why"), [("test_convnext", (1, 8, 8), "Kernel size"), ("lenet5", (1, 8, 8), "Kernel size")]
)
def test_what_cannot_take_the_images_is_refused_in_one_sentence(name: str, shape: tuple[int, ...], why: str):
    with pytest.raises(InputError, match=rf"network '{name}' cannot take images of \(1, 8, 8\) \(.*{why}") as fault:
        student_of(teacher_of(*shape), name)
    assert "\n" not in str(fault.value)
