//! The linear maps of a block, which the decoder loads and adapters change. Names and sizes only.

use super::ModelConfig;

/// One linear map of a block: `y = W x (+ b)`, W being `[d_out, d_in]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearMap {
    /// Name within the block, such as `self_attn.q_proj`.
    pub name: &'static str,
    /// Rows of W.
    pub d_out: usize,
    /// Columns of W.
    pub d_in: usize,
    /// Whether there is a bias, `[d_out]`.
    pub bias: bool,
}

impl ModelConfig {
    /// The seven linear maps that every block has, in the order of a pass. The unembedding is none of them.
    pub fn linear_maps(&self) -> [LinearMap; 7] {
        let (q_width, kv_width) = (self.n_heads * self.d_head, self.n_kv_heads * self.d_head);
        let map = |name, d_out, d_in, bias| LinearMap { name, d_out, d_in, bias };
        [
            map("self_attn.q_proj", q_width, self.d_model, self.qkv_bias),
            map("self_attn.k_proj", kv_width, self.d_model, self.qkv_bias),
            map("self_attn.v_proj", kv_width, self.d_model, self.qkv_bias),
            map("self_attn.o_proj", self.d_model, q_width, self.o_bias),
            map("mlp.gate_proj", self.d_mlp, self.d_model, self.mlp_bias),
            map("mlp.up_proj", self.d_mlp, self.d_model, self.mlp_bias),
            map("mlp.down_proj", self.d_model, self.d_mlp, self.mlp_bias),
        ]
    }
}
