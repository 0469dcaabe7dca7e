import numpy as np
import pytest

from posterion.predictive.blocks import BLOCK_SIZES, Block, plan_blocks, take_block


@pytest.mark.parametrize("num_rows", [1, 31, 32, 33, 127, 128, 129, 2047, 2048, 2049, 10_000])
def test_blocks_cover_all_rows_once_in_order_with_one_size(num_rows):
    blocks = plan_blocks(num_rows, BLOCK_SIZES)
    assert blocks[0].start == 0
    assert blocks[-1].stop == num_rows
    assert all(one.stop == other.start for one, other in zip(blocks, blocks[1:], strict=False))
    assert len({block.size for block in blocks}) == 1
    assert all(0 < block.num_rows <= block.size for block in blocks)


def test_few_rows_take_small_blocks_and_many_take_large_ones():
    assert {block.size for block in plan_blocks(100, BLOCK_SIZES)} == {32}
    assert {block.size for block in plan_blocks(200, BLOCK_SIZES)} == {2048}
    assert {block.size for block in plan_blocks(5, (64,))} == {64}


def test_a_block_is_filled_up_with_its_last_row():
    data = {"x": np.arange(10.0).reshape(5, 2), "last axis": np.arange(15).reshape(3, 5), "whole": np.ones(7)}
    taken = take_block(data, {"x": 0, "last axis": 1}, Block(3, 5, 4))
    np.testing.assert_array_equal(taken["x"], [[6, 7], [8, 9], [8, 9], [8, 9]])
    np.testing.assert_array_equal(taken["last axis"][0], [3, 4, 4, 4])
    assert taken["whole"] is data["whole"]


def test_a_block_of_all_rows_is_not_copied():
    data = {"x": np.zeros((4, 2))}
    assert take_block(data, {"x": 0}, Block(0, 4, 4))["x"] is data["x"]
