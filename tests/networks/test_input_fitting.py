"""Networks of any timm family accept small images, and are saved and loaded unchanged."""

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
from datafree.networks.input_fitting import choose_patch_size
from datafree.runs.tasks import Task, create_student
from datafree.teachers.options import parse_arguments
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
def test_a_network_of_another_family_trains_on_small_images_and_is_loaded_by_timm(name: str, tmp_path: Path):
    student = create_student(teacher_of(1, 8, 8), name).train()
    F.cross_entropy(student(torch.rand(4, 1, 8, 8)), torch.arange(4)).backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in student.parameters())
    teachers.save_folder(student.eval(), tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert config["model_args"] == {"in_chans": 1} | NETWORKS[name]
    images = torch.rand(2, 1, 8, 8)
    plain = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True).eval()
    assert torch.allclose(plain(student.normalize(images)), student(images), atol=1e-5)
    assert torch.equal(teachers.load(f"local-dir:{tmp_path / 'net'}")(images), student(images))


def test_timm_loads_a_small_transformer_without_datafree(tmp_path: Path):
    saved = create_student(teacher_of(3, 32, 32), "test_vit", {"depth": 2}).eval()
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
    ("size", "native", "patch"),
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
def test_patch_sizes_by_hand(size: tuple[int, int], native: int, patch: int):
    assert choose_patch_size(size, native) == patch


class TestArguments:
    def test_a_student_has_the_preprocessing_of_its_teacher(self):
        teacher = teacher_of(3, 32, 32)
        teacher.preprocessing = Preprocessing(crop_pct=0.75, interpolation="lanczos")
        assert create_student(teacher, "test_vit").preprocessing == teacher.preprocessing

    def test_a_given_patch_size_is_used(self):
        student = create_student(teacher_of(3, 32, 32), "test_vit", {"patch_size": 8, "depth": 3})
        assert student.model.patch_embed.grid_size == (4, 4)  # type: ignore[union-attr]
        assert len(student.model.blocks) == 3  # type: ignore[arg-type]

    def test_a_fixed_patch_size_is_kept(self):
        student = create_student(teacher_of(3, 32, 32), "mixer_s32_224")
        assert student.model.pretrained_cfg["model_args"] == {"img_size": [32, 32]}  # type: ignore[index]
        with pytest.raises(InputError, match="network 'mixer_s32_224' (does not accept|could not be created)"):
            create_student(teacher_of(3, 8, 8), "mixer_s32_224")

    def test_a_network_at_its_own_size_gets_no_arguments(self):
        student = create_student(teacher_of(3, 160, 160), "test_vit")
        assert student.model.pretrained_cfg["model_args"] == {}  # type: ignore[index]

    def test_choosing_the_patch_size_does_not_change_the_random_numbers_of_the_student(self):
        weights = []
        for arguments in ({}, {"patch_size": 1}):
            torch.manual_seed(3)
            weights.append(create_student(teacher_of(1, 8, 8), "test_vit", arguments).state_dict())
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    def test_parsed_arguments_by_hand(self):
        words = ("depth=4", "mlp_ratio=1.5", "dims=[8, 16]", "qkv_bias=false", "act_layer=gelu")
        assert parse_arguments(words, "student-args") == {
            "depth": 4,
            "mlp_ratio": 1.5,
            "dims": [8, 16],
            "qkv_bias": False,
            "act_layer": "gelu",
        }

    @pytest.mark.parametrize("word", ["depth", "=4", "=", "depth="])
    def test_arguments_in_another_form_are_refused(self, word: str):
        with pytest.raises(InputError, match="student-args has .*; write NAME=VALUE"):
            parse_arguments((word,), "student-args")

    def test_a_task_passes_them_to_the_student(self, tmp_path: Path):
        teachers.save_folder(teacher_of(1, 8, 8), tmp_path / "teacher")
        task = Task(teacher=f"local-dir:{tmp_path / 'teacher'}", student="test_vit", student_args=("depth=1",))
        assert len(task.load()[1].model.blocks) == 1  # type: ignore[arg-type]

    def test_arguments_for_a_folder_are_refused(self, tmp_path: Path):
        teachers.save_folder(teacher_of(1, 8, 8), tmp_path / "net")
        with pytest.raises(InputError, match="remove --student-args"):
            create_student(teacher_of(1, 8, 8), f"local-dir:{tmp_path / 'net'}", {"depth": 1})

    @pytest.mark.parametrize("bad", [{"checkpoint_path": "/etc/passwd"}, {"pretrained_cfg": {"file": "x"}}])
    def test_a_configuration_cannot_choose_files(self, bad: dict[str, Any], tmp_path: Path):
        teachers.save_folder(teacher_of(1, 8, 8), tmp_path / "net")
        config = json.loads((tmp_path / "net" / "config.json").read_text())
        (tmp_path / "net" / "config.json").write_text(json.dumps(config | {"model_args": bad}))
        with pytest.raises(InputError, match="(may choose a file or code|only numbers and words are allowed)"):
            teachers.load_folder(tmp_path / "net")

    def test_unknown_arguments_are_refused(self):
        with pytest.raises(InputError, match=r"network 'resnet10t' could not be created .*depth"):
            create_student(teacher_of(1, 8, 8), "resnet10t", {"depth": 4})


@pytest.mark.parametrize(
    ("name", "shape", "why"), [("test_convnext", (1, 8, 8), "Kernel size"), ("lenet5", (1, 8, 8), "Kernel size")]
)
def test_a_network_that_does_not_accept_the_images_is_refused_in_one_sentence(
    name: str, shape: tuple[int, ...], why: str
):
    with pytest.raises(
        InputError, match=rf"network '{name}' does not accept images of shape \(1, 8, 8\) \(.*{why}"
    ) as fault:
        create_student(teacher_of(*shape), name)
    assert "\n" not in str(fault.value)
